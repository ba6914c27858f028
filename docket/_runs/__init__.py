"""What a call of the facade sets going: `attempt` brings plan, engine and certifier together for one try at a run."""
