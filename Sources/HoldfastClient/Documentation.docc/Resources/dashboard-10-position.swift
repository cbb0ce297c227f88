import Foundation
import HoldfastClient

struct Call: Codable, Sendable {
    var call: String
    var state: String
}

struct Watching: Codable, Sendable {
    var watching: String
}

/// What outlives the program: the table, and the position up to which it is right.
struct Kept: Codable, Sendable {
    var calls: [String: String] = [:]
    var epoch: String?
    var offset: UInt64?

    static let file = URL(fileURLWithPath: "dashboard.json")

    static func read() -> Kept {
        (try? JSONDecoder().decode(Kept.self, from: Data(contentsOf: self.file))) ?? Kept()
    }

    func write() throws {
        try JSONEncoder().encode(self).write(to: Self.file, options: .atomic)
    }

    var position: HoldfastClient.Position? {
        get {
            guard let epoch, let offset else { return nil }
            return HoldfastClient.Position(epoch: epoch, offset: offset)
        }
        set {
            self.epoch = newValue?.epoch
            self.offset = newValue?.offset
        }
    }
}

actor Screen {
    private var kept = Kept.read()
    private var line = ""
    private var notes: [String] = []

    var position: HoldfastClient.Position? { self.kept.position }

    func show(_ message: HoldfastClient.TypedMessage<Call>) throws {
        if let gap = message.gap {
            // What is shown may be wrong: a call may have ended in the gap.
            self.kept.calls = [:]
            self.note(gap.missing.map { "\($0) messages are lost" } ?? "messages are lost, how many is not known")
        }
        let call = message.payload
        self.kept.calls[call.call] = call.state == "ended" ? nil : call.state
        self.kept.position = message.position
        try self.kept.write()
        self.draw()
    }

    func show(_ change: HoldfastClient.StateChange) {
        self.line = "\(change.state)"
        if let reason = change.reason { self.line += ": \(reason)" }
        if let pause = change.nextAttemptIn { self.line += ", next attempt in \(pause)" }
        self.draw()
    }

    func note(_ text: String) {
        self.notes.append(text)
        self.draw()
    }

    private func draw() {
        print("\u{1B}[2J\u{1B}[H" + self.line)
        for (call, state) in self.kept.calls.sorted(by: { $0.key < $1.key }) { print(call, state) }
        for note in self.notes.suffix(3) { print("!", note) }
    }
}

let screen = Screen()
let client = try HoldfastClient(url: CommandLine.arguments.dropFirst().first ?? "http://127.0.0.1:8080")

Task {
    for await change in client.states { await screen.show(change) }
}

let calls = client.subscribe("calls.live", as: Call.self, since: await screen.position)

Task {
    do {
        let reply = try await calls.subscription.message(Watching(watching: "all"))
        await screen.note(reply.data.map { "the service says: \(String(buffer: $0))" } ?? "the gateway has our message")
    } catch {
        await screen.note("\(error)")
    }
}

for try await message in calls {
    try await screen.show(message)
}
