"""One model over several devices: a plan carried out by parts that each compute their segments."""
