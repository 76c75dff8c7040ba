"""What can be known before a run: of the traces, the student and the benchmarks, without any weights. For `dcod check`.

``student`` gets config.json and tokenizer alone; ``sample`` examines the first rows of every source as ingestion does;
``languages`` tells what language texts are in; ``checks`` are the questions, one function each: add one there;
``timing`` is how long a run takes.
``advice`` writes a configuration for what it finds, and ``editors`` the schema beside it.
"""
