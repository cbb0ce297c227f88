import Logging
import NIOConcurrencyHelpers
import NIOCore
import NIOPosix
import Testing

@testable import RESP

struct TestFailure: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) { self.description = description }
}

/// Waits until the condition holds, at most until the deadline.
func eventually(_ what: String, within limit: Duration = .seconds(20), _ condition: () -> Bool) async throws {
    let deadline = ContinuousClock.now + limit
    while !condition() {
        guard ContinuousClock.now < deadline else { throw TestFailure("not within \(limit): \(what)") }
        try await Task.sleep(for: .milliseconds(2))
    }
}

/// What happened, in order.
final class Log<Event: Sendable & Equatable>: Sendable {
    private let box = NIOLockedValueBox<[Event]>([])

    var events: [Event] { self.box.withLockedValue { $0 } }

    func add(_ event: Event) { self.box.withLockedValue { $0.append(event) } }

    /// Waits for an event, of those from the given one on.
    /// - Returns: the number of the event behind it.
    @discardableResult
    func wait(from start: Int = 0, _ what: String, _ matches: (Event) -> Bool) async throws -> Int {
        var found: Int?
        do {
            try await eventually(what) {
                found = self.events.dropFirst(start).firstIndex(where: matches)
                return found != nil
            }
        } catch {
            throw TestFailure("\(error); there were \(self.events.suffix(10))")
        }
        return (found ?? 0) + 1
    }
}

let quiet = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

func anyLoop() -> any EventLoop { MultiThreadedEventLoopGroup.singleton.any() }

func buffer(_ string: String) -> ByteBuffer { ByteBuffer(string: string) }

/// A connection that is closed whatever the body does.
func withConnection<Result: Sendable>(
    to address: RESPServerAddress,
    _ configuration: RESPConnectionConfiguration = RESPConnectionConfiguration(),
    onEvent: (@Sendable (RESPConnection.Event) -> Void)? = nil,
    _ body: (RESPConnection) async throws -> Result
) async throws -> Result {
    let connection = try await RESPConnection.connect(
        address: address, configuration: configuration, eventLoop: anyLoop(), logger: quiet, onEvent: onEvent)
    do {
        let result = try await body(connection)
        try await connection.close().get()
        return result
    } catch {
        try? await connection.close().get()
        throw error
    }
}

/// Why a connection cannot be had.
func connectError(
    _ address: RESPServerAddress,
    _ configuration: RESPConnectionConfiguration = RESPConnectionConfiguration()
) async throws -> RESPError {
    do {
        try await withConnection(to: address, configuration) { _ in }
    } catch let error as RESPError {
        return error
    }
    throw TestFailure("connected to \(address)")
}

/// A started link that is stopped whatever the body does.
func withLink(
    to address: RESPServerAddress,
    _ configuration: RESPConnectionConfiguration = RESPConnectionConfiguration(),
    liveness: RESPLink.Liveness = .none,
    backoff: RESPLink.Backoff = RESPLink.Backoff(base: 0.01, cap: 0.05),
    onEvent: @escaping @Sendable (RESPLink.Event) -> Void = { _ in },
    _ body: (RESPLink, Log<RESPLink.Event>) async throws -> Void
) async throws {
    let log = Log<RESPLink.Event>()
    let link = RESPLink(
        address: address, configuration: configuration, liveness: liveness, backoff: backoff, eventLoop: anyLoop(),
        logger: quiet
    ) { event in
        log.add(event)
        onEvent(event)
    }
    link.start()
    do {
        try await body(link, log)
        try await link.stop().get()
    } catch {
        try? await link.stop().get()
        throw error
    }
}

extension RESPLink.Event {
    var isDisconnected: Bool { if case .disconnected = self { true } else { false } }
    var isLatency: Bool { if case .latency = self { true } else { false } }
    var isSubscribed: Bool { if case .subscribed = self { true } else { false } }
    var isMessage: Bool { if case .message = self { true } else { false } }
}
