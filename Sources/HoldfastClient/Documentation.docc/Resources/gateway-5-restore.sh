curl -H 'Content-Type: application/json' -d '{"cut":false}' http://127.0.0.1:8080/demo/cut
