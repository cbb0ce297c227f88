curl -H 'Content-Type: application/json' -d '{"cut":true}' http://127.0.0.1:8080/demo/cut
