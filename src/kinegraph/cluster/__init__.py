"""One job on many machines: the functions of one machine, mapped over shards by Ray."""
