import HoldfastClient
import HoldfastCore
import HoldfastProtocol
import NIOConcurrencyHelpers
import Testing

/// Reads a connection's events as they come and keeps them.
final class EventLog: Sendable {
    private let box = NIOLockedValueBox((events: [ConnectionEvent](), hasEnded: false))
    private let reader: Task<Void, Never>

    init(_ connection: ClientConnection) {
        let box = self.box
        self.reader = Task {
            for await event in connection.events { box.withLockedValue { $0.events.append(event) } }
            box.withLockedValue { $0.hasEnded = true }
        }
    }

    func stop() {
        self.reader.cancel()
    }

    var events: [ConnectionEvent] { self.box.withLockedValue { $0.events } }
    var hasEnded: Bool { self.box.withLockedValue { $0.hasEnded } }

    var news: [ConnectionNews] {
        self.events.compactMap { if case .news(let news) = $0 { news } else { nil } }
    }

    var lines: [LineNews] {
        self.events.compactMap { if case .line(let news) = $0 { news } else { nil } }
    }

    var states: [ConnectionState] {
        self.news.compactMap { if case .state(let change) = $0 { change.state } else { nil } }
    }

    /// `data` of all messages, as text.
    var data: [String] {
        self.news.compactMap { if case .message(let event) = $0 { event.data.map { String(buffer: $0) } } else { nil } }
    }

    /// Whether the session was resumed, of each line that has carried it.
    var resumed: [Bool] {
        self.news.compactMap { if case .connected(let resumed, _) = $0 { resumed } else { nil } }
    }

    var hasBeenSuspicious: Bool {
        self.events.contains { if case .line(.suspect) = $0 { true } else { false } }
    }

    func waitFor(
        _ what: String,
        sourceLocation: SourceLocation = #_sourceLocation,
        _ condition: @Sendable (EventLog) -> Bool
    ) async throws {
        do {
            try await eventually(what, sourceLocation: sourceLocation) { condition(self) }
        } catch {
            Issue.record("told: \(self.events)", sourceLocation: sourceLocation)
            throw error
        }
    }
}
