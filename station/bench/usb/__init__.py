"""The virtual programmers as USB devices: CH340s that the kernel's own driver believes in, attached by USB/IP to `vhci_hcd`."""
