"""Wire formats, one file each: bytes into a batch, outcomes into bytes. Pure.

port          what a dialect is whose batches are answered in place, and what all share
on_record     what one is whose batches are answered later
registry      the vendors' dialects, a line each
slices      work in slices, so that others are served in between
strictness    what every JSON envelope must obey: UTF-8, depth, size of numbers, no duplicate members
native        CONTRACT 2: JSON in, JSON or NDJSON out
native_operation  one operation of it
schedule      when an asynchronous batch may begin
native_shape  what is wrong with a native envelope's members, each with its pointer: the slow path
tabular       outcomes as CSV
multistatus   the same outcomes as RFC 4918 XML
multipart     bodies of several parts, and header lines
anthropic     WIRE 3: Message Batches: what is asked, and requests into a batch
anthropic_answer  the same as batches, lines and errors of the vendor's
openai        WIRE 4: batches that are made of uploaded files: what is asked
openai_create what a call that creates one says
openai_lines  the lines of its file into operations, every line that is none told
openai_answer the same as batches, lists and errors of the vendor's
openai_results  its outcomes as lines of the output and the error file
openai_files  the files themselves
form          multipart/form-data, read as it comes
google        WIRE 5: requests as the parts of one multipart/mixed, and their answers
google_parts  the HTTP request inside such a part
google_answer what became of them, as Google writes it
facebook      WIRE 7: the `batch` of a form, JSON or a query, an array of requests
facebook_envelope  where such parameters stand
facebook_entry     one of its requests: target, body, files, references
facebook_answer    what became of them, as Facebook's client judges it
graph         WIRE 6: Microsoft Graph's JSON batches, which are those of OData 4.01
graph_entries what an entry of such a batch is made of
graph_answer  what became of it, as Graph writes it
graph_monitor the same for callers who prefer to come back for it
"""
