"""Attention across machines, on torch.distributed (gloo on a CPU, nccl on GPUs).

`traffic` says how many bytes a process sends; `collectives` sends them, with gradients;
`heads` splits a layer by heads, `context` a text by tokens; `processes` starts and ends
processes; `checks` is what they run (`python -m attnbook.parallel --help`); `plan` goes
on on paper, where this machine ends.
"""
