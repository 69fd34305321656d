"""A dsl student under its teacher: answers, verdicts, and the pairs that come of them.

    items, refused = read_items("outputs/d_04_dataset.jsonl", train="outputs/d_05_....jsonl")
    answers = answer(engine, items, Decoding(limit), checkpoint)
    rows = judge_rows(items, answers, judge)      # evaluation_results.jsonl
    summarise(rows)                               # evaluation_summary.json
    build_pairs(rows)                             # dpo_pairs.jsonl

The names of files and fields are the described system's (docs/dsl.md).
"""
