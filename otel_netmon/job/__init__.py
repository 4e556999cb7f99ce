"""This process in its job: its rank, the run's id, the store through which ranks agree, its peers, its steps."""
