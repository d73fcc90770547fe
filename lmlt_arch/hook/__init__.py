"""The import hook that registers our names in BasicSR and patches it; BasicSR's files stay as they are.

From an import to its effects:

- `finder` sees every import of `basicsr` and runs the rest around it.
- `checkout` finds a BasicSR that Python's own finders miss, as in a source checkout.
- `patching` holds the table of patches and applies those that are needed; the patches themselves are in
  `patches`, one module for each subject.
- `registration` offers our names to BasicSR's registries.
- `launch` is the program of our launchers `basicsr/train.py` and `basicsr/test.py`.
- `store` lets processes that torchrun starts again find each other.
- `releases` identifies a BasicSR by its files, for `lmlt doctor`.
- `warn` reports failures of the hook.
"""
