import HoldfastClient

let client = try HoldfastClient(url: "http://127.0.0.1:8080")

for try await message in client.subscribe("calls.live") {
    print(String(buffer: message.data))
}
