"""How the plugin reaches into BasicSR: the only room that knows BasicSR's insides.

`finder` sees every import of `basicsr`, `patching` runs those of `patches` around it, and
`registration` tells BasicSR's registries our names. BasicSR's own files are never touched.
"""
