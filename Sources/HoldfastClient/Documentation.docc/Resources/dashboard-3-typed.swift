import HoldfastClient

struct Call: Codable, Sendable {
    var call: String
    var state: String
}

let client = try HoldfastClient(url: "http://127.0.0.1:8080")

for try await message in client.subscribe("calls.live", as: Call.self) {
    print(message.payload.call, message.payload.state)
}
