"""One LightningModule per task kind, over what all kinds share."""
