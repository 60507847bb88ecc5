"""What measures gateways side by side: surroundings, load, the kernel's account, the table."""
