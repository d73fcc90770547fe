"""How the plugin reaches into BasicSR: the only room that knows BasicSR's insides.

`finder` sees every import of `basicsr`, `mending` runs the mends of the `mends_*` modules around it, and
`registration` tells BasicSR's registries our names. BasicSR's own files are never touched.
"""
