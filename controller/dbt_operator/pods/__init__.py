"""What is launched: Jobs and ConfigMaps as plain manifests. Pure: the same input gives the same manifest."""
