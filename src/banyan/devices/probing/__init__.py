"""How a vendor's chips are found: the PCI list first, then the vendor's own command, parsed."""
