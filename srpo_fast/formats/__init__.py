"""Published file formats. records: a file's records, one by one. chats, pools: one parser a format, from a record to an
Entry. recognise: which parser a record needs. writers: files that other programs read.
"""
