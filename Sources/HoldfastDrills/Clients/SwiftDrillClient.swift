import HoldfastClient
import HoldfastCore
import HoldfastProtocol
import Synchronization

/// The Swift client, in this process.
final class SwiftDrillClient: DrillClient {
    let log: SightingLog
    let pid: Int32? = nil
    private let running = Mutex<(connection: ClientConnection, reader: Task<Void, Never>)?>(nil)

    /// A topic whose messages are read and thrown away.
    private let other: String?

    init(log: SightingLog, alsoSubscribed other: String? = nil) {
        self.log = log
        self.other = other
    }

    func connect(url: String, subscription: String) async throws {
        var configuration = try ClientConfiguration(url: url)
        configuration.machine.clientName = "holdfast drill"
        let connection = try ClientConnection(configuration)
        // First the other one: `ready` then means both.
        if let other = self.other { connection.subscribe(other) }
        connection.subscribe(subscription)
        connection.connect()
        let log = self.log
        let reader = Task {
            for await event in connection.events {
                for sighting in Sighting.of(event, about: subscription) { log.append(sighting) }
            }
        }
        self.running.withLock { $0 = (connection, reader) }
    }

    func wake() {
        self.running.withLock { $0?.connection.connect() }
    }

    /// Has no page.
    func hide() {}

    func close() async {
        let running = self.running.withLock { running in
            defer { running = nil }
            return running
        }
        running?.connection.close()
        await running?.reader.value
    }

    func signal(_ number: Int32) {}
}

extension Sighting {
    /// What an event of the Swift client says.
    /// - Parameter subscription: what happens to others is left out.
    static func of(_ event: ConnectionEvent, about subscription: String) -> [Sighting] {
        switch event {
        case .news(let news): Self.of(news, about: subscription)
        case .line(let news): Self.of(news)
        case .began: []
        }
    }

    private static func of(_ news: ConnectionNews, about subscription: String) -> [Sighting] {
        switch news {
        case .message(let event) where event.subscription != subscription: return []
        case .gap(let name, _, _) where name != subscription: return []
        case .subscribed(let name, _, _) where name != subscription: return []
        case .message(let event):
            guard let data = event.data, let number = Self.number(in: data) else {
                return [.failed("a message without a number came: \(event)")]
            }
            return [.message(number)]
        case .gap(_, let after, let next): return [.gap(after: after, next: next)]
        case .subscribed: return [.ready]
        case .unsubscribed(let name, let event):
            return [.failed("\(name) was ended by the gateway: \(event.error ?? "no reason given")")]
        case .state(let change):
            switch change.state {
            case .reconnecting, .suspended: return [.lost]
            case .closed where change.reason != .closedByApp:
                return [.failed("closed for good: \(change.reason.rawValue)")]
            case .idle, .connecting, .connected, .closed: return []
            }
        case .problem(let problem): return [.problem("\(problem.code): \(problem.text)")]
        case .connected: return [.open(transport: nil)]
        case .reply, .roundTrip, .goaway: return []
        }
    }

    private static func of(_ news: LineNews) -> [Sighting] {
        switch news {
        case .opening(_, let transport): [.attempt(transport: transport.rawValue)]
        case .carried(let transport): [.open(transport: transport.rawValue)]
        case .suspect: [.lost]
        case .cut: [.cut]
        case .ended, .trusted: []
        }
    }
}
