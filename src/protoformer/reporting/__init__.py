"""What is read off finished runs: tables, cards, reports, comparisons. Imports neither torch nor lightning."""
