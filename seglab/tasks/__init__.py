"""Tasks: the LightningModules that own network, loss and metrics."""
