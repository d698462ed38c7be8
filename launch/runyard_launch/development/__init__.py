"""`runyard dev` and `runyard init`: an author's project on this machine, from its first file on."""
