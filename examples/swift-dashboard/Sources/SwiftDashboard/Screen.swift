import Foundation
import HoldfastClient

/// Draws a table on a terminal, at most ten times a second; elsewhere prints a line for each thing that happens.
actor Screen {
    private static let rows = 16

    private let subscription: String
    private let isTerminal: Bool
    private var state = "not connected yet"
    private var line = ""
    private var roundTrip = ""
    private var news = ""
    private var count = 0
    private var lost: UInt64 = 0
    private var calls: [(id: String, text: String)] = []
    private var isDrawing = false

    init(subscription: String, isTerminal: Bool) {
        self.subscription = subscription
        self.isTerminal = isTerminal
        // Clears the screen and hides the cursor.
        if isTerminal { print("\u{1B}[2J\u{1B}[?25l", terminator: "") }
    }

    func leave() {
        if self.isTerminal { print("\u{1B}[?25h") }
    }

    // MARK: What happens

    func changed(_ change: HoldfastClient.StateChange) {
        self.state = "\(change.state)"
        if let seconds = change.nextAttemptIn { self.state += ", next attempt in \(seconds.formatted)" }
        if let detail = change.detail { self.state += " (\(detail))" }
        self.say("state: \(self.state)")
    }

    func happened(_ event: HoldfastClient.Event) {
        switch event {
        case .state: return
        case .connected(let connected):
            self.line = "\(connected.transport), session \(connected.session), gateway \(connected.node ?? "?")"
            self.tell(connected.isResumed ? "the session goes on" : "a new session")
        case .recovered(let recovery, _):
            self.tell(
                recovery.messages.map { "recovered, \($0) missed messages follow" } ?? "recovered, nothing is lost")
        case .gap(let gap):
            self.lost += gap.missing ?? 0
            self.tell("GAP: \(gap.missing.map(String.init) ?? "an unknown number of") messages are lost")
        case .roundTrip(let last, _):
            self.roundTrip = last.formatted
            self.draw()
        case .goaway: self.tell("the gateway asks us to go elsewhere")
        case .problem(let error): self.tell("\(error)")
        }
    }

    func show(_ message: HoldfastClient.TypedMessage<CallEvent>) {
        self.count += 1
        let call = message.payload
        let id = call.call ?? "-"
        let people = [call.from, call.to].compactMap { $0?.name }.joined(separator: " → ")
        let text = "\(id)  \(call.state ?? "-")  \(people)"
        self.calls.removeAll { $0.id == id && call.call != nil }
        self.calls.append((id, text))
        if self.calls.count > Self.rows { self.calls.removeFirst() }
        self.say("message \(message.message.offset.map(String.init) ?? "-"): \(text)")
    }

    // MARK: Drawing

    private func tell(_ news: String) {
        self.news = news
        self.say(news)
    }

    private func say(_ line: String) {
        guard self.isTerminal else {
            print(line)
            // Whoever reads a pipe wants it now.
            fflush(nil)
            return
        }
        self.draw()
    }

    private func draw() {
        guard self.isTerminal, !self.isDrawing else { return }
        self.isDrawing = true
        Task {
            try? await Task.sleep(for: .milliseconds(100))
            self.isDrawing = false
            let head = [
                "\(self.subscription)   \(self.count) messages, \(self.lost) lost",
                self.state, self.line + (self.roundTrip.isEmpty ? "" : ", round trip \(self.roundTrip)"), self.news, "",
            ]
            let rows = head + self.calls.map(\.text)
            // Home, each line cleared to its end, and what is below.
            print("\u{1B}[H" + rows.map { "\($0)\u{1B}[K" }.joined(separator: "\n") + "\u{1B}[J", terminator: "")
            fflush(nil)
        }
    }
}

extension Duration {
    /// Such as `12 ms` or `3.4 s`.
    fileprivate var formatted: String {
        let milliseconds = Double(self.components.seconds) * 1000 + Double(self.components.attoseconds) / 1e15
        return milliseconds < 1000
            ? "\(Int(milliseconds.rounded())) ms" : "\((milliseconds / 100).rounded() / 10) s"
    }
}
