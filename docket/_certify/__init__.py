"""What happens to a result that is kept: `certifier` holds one certified step's life, from the claim to the certificate."""
