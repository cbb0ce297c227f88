import HoldfastClient

let client = try HoldfastClient(url: "http://127.0.0.1:8080")
