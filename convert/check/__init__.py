"""What each runtime would refuse of an adapter, said before it is deployed."""
