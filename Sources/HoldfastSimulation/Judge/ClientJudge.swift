import HoldfastCore
import HoldfastProtocol
import NIOCore

/// Holds what one client's app is told against what it should be told.
final class ClientJudge {
    private let index: Int
    private let ledger: Ledger
    private let fail: (Violation.Promise, String) -> Void
    private(set) var topics: [String: TopicJudge] = [:]
    /// Messages of the app that have no answer yet.
    private(set) var unanswered: Set<String> = []
    private var answered: Set<String> = []
    /// When WebSockets were opened, in virtual time, that were of no use while something else worked.
    private var useless: [Int64] = []
    /// Lines that were opened while HTTP carried the session.
    private var climbing: Set<Int> = []
    private(set) var connects = 0
    /// Commands that leave topics, and have no answer yet.
    private var leaving: [String: String] = [:]
    /// A topic could not be left.
    var onStay: (String) -> Void = { _ in }
    /// An app asks again for a topic that was refused.
    var onRefused: (String) -> Void = { _ in }

    static let budget = 2
    static let budgetTime: Int64 = 15 * 60 * 1_000_000
    static let usefulTime: Int64 = 60 * 1_000_000

    init(_ index: Int, _ ledger: Ledger, fail: @escaping (Violation.Promise, String) -> Void) {
        self.index = index
        self.ledger = ledger
        self.fail = { fail($0, "client \(index): \($1)") }
    }

    // MARK: The app

    /// - Parameter command: that subscribes.
    func wants(_ topic: String, _ command: String) {
        if self.topics[topic] == nil { self.topics[topic] = TopicJudge(topic: topic) }
        self.topics[topic]?.wants(command)
    }

    /// - Parameter command: that leaves it.
    func leaves(_ topic: String, _ command: String) {
        self.topics[topic]?.leaves()
        self.leaving[command] = topic
    }

    func sends(_ id: String) { self.unanswered.insert(id) }

    func reloads() {
        self.topics = [:]
        self.leaving = [:]
        self.unanswered = []
        self.climbing = []
    }

    // MARK: What it is told

    func told(_ news: ConnectionNews) {
        switch news {
        case .state(let change):
            if change.state == .closed { self.fail(.alive, "closed for good: \(change.reason.rawValue)") }
        case .connected: self.connects += 1
        case .subscribed(let name, _, let event):
            self.judge(name) { $0.subscribed(event, ledger: self.ledger) }
        case .unsubscribed(let name, let event):
            guard event.status == "error", event.name == "subscribe" else {
                self.topics[name]?.left()
                return
            }
            self.topics[name]?.refused()
            if self.topics[name]?.isWanted == true { self.refused(name, event) }
        case .message(let event):
            guard let name = event.subscription, let data = event.data,
                let number = (try? JSONObject(parsing: data))?["k"]?.unsignedInteger
            else { return self.fail(.truth, "a message that was never published: \(event)") }
            self.judge(name) { $0.message(Int(number), offset: event.offset, ledger: self.ledger) }
        case .gap(let name, let after, let next):
            self.judge(name) { $0.gap(after: after, next: next) }
        case .reply(let id, let event):
            if let name = self.leaving.removeValue(forKey: id), event.status == "error" {
                self.topics[name]?.stays()
                self.onStay(name)
            }
            guard self.unanswered.remove(id) != nil || !self.answered.contains(id) else {
                return self.fail(.answered, "\(id) was answered twice")
            }
            self.answered.insert(id)
        case .roundTrip, .goaway, .problem: break
        }
    }

    private static let refusals: Set<String> = [
        "limit_exceeded", "queue_full", "too_big", "broker_unavailable", "closed",
    ]

    private func refused(_ name: String, _ event: WireEvent) {
        guard Self.refusals.contains(event.code ?? "") else {
            return self.fail(.alive, "\(name) was refused: \(event)")
        }
        self.onRefused(name)
    }

    private func judge(_ name: String, _ body: (inout TopicJudge) -> TopicJudge.Failure?) {
        guard var topic = self.topics[name] else { return self.fail(.once, "\(name): nobody asked for it") }
        let failure = body(&topic)
        self.topics[name] = topic
        if let failure { self.fail(failure.promise, failure.text) }
    }

    // MARK: Lines

    func opens(_ line: any SimulatedLine, _ machine: ConnectionMachine) {
        guard line.transport == .websocket, let live = machine.liveTransport, live != .websocket else { return }
        self.climbing.insert(line.id)
    }

    /// A line is gone, by itself or since it was let go.
    func ended(_ line: any SimulatedLine, _ machine: ConnectionMachine, now: Int64) {
        guard self.climbing.remove(line.id) != nil, machine.liveTransport.map({ $0 != .websocket }) == true,
            now - line.openedAt < Self.usefulTime
        else { return }
        self.useless.append(line.openedAt)
        let recent = self.useless.filter { $0 > line.openedAt - Self.budgetTime }
        guard recent.count > Self.budget else { return }
        self.fail(.budget, "\(recent.count) useless WebSockets in a quarter of an hour while HTTP worked")
    }

    // MARK: The end

    /// All has been well for long enough.
    func settled(_ machine: ConnectionMachine) {
        guard machine.state == .connected else {
            return self.fail(.alive, "\(machine.state.rawValue) long after everything was well again")
        }
        for name in self.topics.keys.sorted() { self.judge(name) { $0.settled(ledger: self.ledger) } }
        if let id = self.unanswered.sorted().first { self.fail(.answered, "\(id) was never answered") }
    }
}
