.build/debug/holdfast demo --port 8080

# In another terminal: where is the line?
curl -s http://127.0.0.1:8080/demo/config
# {"subscription":"calls.live","history":1000,"rate":5,"session_ttl":60,"proxy_port":34291}

swift run dashboard http://127.0.0.1:34291
