"""Rows of a file as records with their predictions."""

from collections.abc import Sequence
from typing import Literal

from protoformer.errors import ConfigurationError, DataError
from protoformer.inference.files.columns import ColumnOptions, RowError, as_query, query_columns
from protoformer.inference.files.output import OutputFormat, Record, own_columns
from protoformer.inference.files.rows import InputRow
from protoformer.inference.opening.opened import OpenedModel
from protoformer.inference.queries.encoder import BATCH_TOKENS, RunEncoder
from protoformer.inference.queries.predict import prediction_rows
from protoformer.modules.queries import Query, QueryColumns

OnBadRow = Literal["error", "skip"]


class RowPredictor:
    """Predicts rows of one file. `problems` are those of rows without a prediction, with their places.

    The columns are chosen by the first row. With `on_bad_row="skip"` the prediction of a row that is no query is null.
    """

    def __init__(
        self,
        opened: OpenedModel,
        source: str,
        options: ColumnOptions,
        top: int,
        on_bad_row: OnBadRow = "error",
        batch_tokens: int = BATCH_TOKENS,
    ) -> None:
        self.opened, self.source, self.options = opened, source, options
        self.top, self.on_bad_row = top, on_bad_row
        self.encoder = RunEncoder(opened, batch_tokens)
        self.columns: QueryColumns | None = None
        self.problems: list[str] = []

    def records(self, rows: Sequence[InputRow], row_format: OutputFormat) -> list[Record]:
        """Input columns and predictions of rows, in order.

        Raises ConfigurationError for a missing column, DataError for a row that is no query.
        """
        predictions = self._predictions(rows)
        return [
            row_format.record(own_columns(row.values, row_format), predictions.get(index) or {"prediction": None})
            for index, row in enumerate(rows)
        ]

    def _predictions(self, rows: Sequence[InputRow]) -> dict[int, dict[str, object] | None]:
        queries: dict[int, Query] = {}
        for index, row in enumerate(rows):
            try:
                if row.problem is not None:
                    raise RowError(row.problem)
                queries[index] = as_query(row.values, self._query_columns(row), self.top)
            except RowError as error:
                self._add_problem(row, str(error))
        predicted = self._predict(list(queries.values()), [rows[index] for index in queries])
        return dict(zip(queries, predicted, strict=True))

    def _predict(self, queries: Sequence[Query], rows: Sequence[InputRow]) -> list[dict[str, object] | None]:
        if not queries:
            return []
        truncated = self.encoder.truncated
        try:
            return list(prediction_rows(self.opened, queries, self.encoder))
        except ConfigurationError as error:
            self.encoder.truncated = truncated
            if len(queries) == 1:
                self._add_problem(rows[0], str(error))
                return [None]
        # one of them is no query of this kind: which one
        return [self._predict([query], [row])[0] for query, row in zip(queries, rows, strict=True)]

    def _query_columns(self, row: InputRow) -> QueryColumns:
        if self.columns is None:
            model = self.opened.model
            own = model.query_columns(self.encoder.reader)
            self.columns = query_columns(
                own, list(row.values), self.options, self.source,
                of_run=self.opened.of_run, chooses=model.takes_choices,
            )  # fmt: skip
        return self.columns

    def _add_problem(self, row: InputRow, problem: str) -> None:
        message = f"{row.location}: {problem}"
        if self.on_bad_row == "error":
            raise DataError(f"{message}; --on-bad-row skip predicts the others")
        self.problems.append(message)
