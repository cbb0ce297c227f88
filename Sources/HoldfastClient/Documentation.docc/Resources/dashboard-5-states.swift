import HoldfastClient

struct Call: Codable, Sendable {
    var call: String
    var state: String
}

actor Screen {
    private var calls: [String: String] = [:]
    private var line = ""

    func show(_ message: HoldfastClient.TypedMessage<Call>) {
        let call = message.payload
        self.calls[call.call] = call.state == "ended" ? nil : call.state
        self.draw()
    }

    func show(_ change: HoldfastClient.StateChange) {
        self.line = "\(change.state)"
        if let reason = change.reason { self.line += ": \(reason)" }
        if let pause = change.nextAttemptIn { self.line += ", next attempt in \(pause)" }
        self.draw()
    }

    private func draw() {
        print("\u{1B}[2J\u{1B}[H" + self.line)
        for (call, state) in self.calls.sorted(by: { $0.key < $1.key }) { print(call, state) }
    }
}

let screen = Screen()
let client = try HoldfastClient(url: "http://127.0.0.1:8080")

Task {
    for await change in client.states { await screen.show(change) }
}

for try await message in client.subscribe("calls.live", as: Call.self) {
    await screen.show(message)
}
