"""SFT against the default correction on a pre-trained student."""
