"""The HTTP service: a process that speaks HTTP and writes events, and a process for each model that answers.

    app      the paths, over FastAPI        guard  keys, hosts, limits: before a path is looked at
    service  what each path does            link   the engine's process, as the HTTP process sees it
    wire     frames between both            answering, engine_process  the other side

What the HTTP process imports never imports torch: it stays small and starts at once.
"""
