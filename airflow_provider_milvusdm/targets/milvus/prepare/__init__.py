"""Prepare a target: decide what to do, create what is missing, or refuse before anything is changed.

Read :mod:`.create` first: it looks at the target (:mod:`.existing`, :mod:`.leftovers`), decides (:mod:`.decide`),
checks the ids (:mod:`.id_scope`, :mod:`.taken_ids`), and carries the action out (:mod:`.unpublished`,
:mod:`.sync`, :mod:`.abandon`). After the verification :mod:`.publish` gives a new collection its name.
"""
