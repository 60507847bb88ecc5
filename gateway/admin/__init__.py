"""The second port: what operators and orchestrators ask."""
