swift run dashboard http://127.0.0.1:8080

# Where the demo runs: Ctrl-C, and then once more
.build/debug/holdfast demo --port 8080
