"""Parts of the training objective that all kinds share: loss, targets, smoothing, the auxiliary loss, normalisation."""
