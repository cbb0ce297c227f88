import Foundation
import HoldfastCore
import HoldfastProtocol
import NIOCore
import NIOPosix
import NIOSSL
import Synchronization

/// A connection to a gateway that outlives its lines: a dead line is noticed and replaced, and what was missed meanwhile
/// comes once and in order, or its absence is told.
///
/// ```swift
/// let connection = try ClientConnection(ClientConfiguration(url: "http://127.0.0.1:8080"))
/// connection.subscribe("calls.live")
/// connection.connect()
/// for await event in connection.events {
///     if case .news(.message(let message)) = event { print(message.data!) }
/// }
/// ```
/// Runs the ``ConnectionMachine`` on one event loop. All functions may be called from anywhere; they take effect in the
/// order of the calls. A connection that was closed, by the app or for good by the gateway, cannot be opened again.
public final class ClientConnection: Sendable {
    /// For one reader, who has to keep reading: see ``ClientConfiguration/waitingEvents``.
    public let events: ConnectionEvents
    private let driver: NIOLoopBoundBox<ConnectionDriver?>
    private let clock = MonotonicClock()
    private let lastID = Atomic<UInt64>(0)
    /// Services know a repeated message by its id, so no two clients may have the same ones.
    private let idPrefix = String(UInt64.random(in: 0...UInt64.max), radix: 36)

    /// - Throws: `NIOSSLError` if the configuration's certificates cannot be used.
    public init(
        _ configuration: ClientConfiguration,
        on loop: any EventLoop = MultiThreadedEventLoopGroup.singleton.next()
    ) throws {
        let tls = configuration.url.isSecure ? try NIOSSLContext(configuration: configuration.tls) : nil
        let driver = NIOLoopBoundBox.makeEmptyBox(valueType: ConnectionDriver.self, eventLoop: loop)
        let events = ConnectionEvents.Producer.makeSequence(
            backPressureStrategy: .init(
                lowWatermark: configuration.waitingEvents.lowerBound,
                highWatermark: configuration.waitingEvents.upperBound
            ),
            finishOnDeinit: true,
            delegate: EventDemand(driver: driver)
        )
        self.events = ConnectionEvents(producer: events.sequence)
        self.driver = driver
        let clock = self.clock
        let source = events.source
        loop.execute {
            driver.value = ConnectionDriver(configuration, tls: tls, loop: loop, clock: clock) { event in
                guard let event else {
                    source.finish()
                    // The driver and the box that the events hold it by would keep each other alive.
                    driver.value = nil
                    return true
                }
                switch source.yield(event) {
                case .produceMore, .dropped: return true
                case .stopProducing: return false
                }
            }
        }
    }

    private func input(_ input: ConnectionInput) {
        let driver = self.driver
        driver.eventLoop.execute { driver.value?.input(input) }
    }

    private func nextID() -> String {
        "\(self.idPrefix).\(self.lastID.add(1, ordering: .relaxed).newValue)"
    }

    /// Connects, and stays connected. While connected: asks whether the line lives. While waiting: tries at once.
    public func connect() {
        self.input(.connect)
    }

    /// Says goodbye, without waiting for an answer. The events end.
    public func close() {
        self.input(.close)
    }

    /// Answered by ``ConnectionNews/subscribed(subscription:since:event:)``, again after each session that was lost, or by
    /// ``ConnectionNews/unsubscribed(subscription:event:)`` with an error.
    /// - Parameters:
    ///   - since: the position after which messages are wanted; `nil`: from now on.
    ///   - fields: members added to the event, for services that know them.
    public func subscribe(_ subscription: String, since: Position? = nil, fields: [JSONObject.Member] = []) {
        self.input(.subscribe(id: self.nextID(), subscription: subscription, since: since, fields: fields))
    }

    public func unsubscribe(_ subscription: String) {
        self.input(.unsubscribe(id: self.nextID(), subscription: subscription))
    }

    /// Sends a message to a subscription's service. It is repeated until the gateway has it, once.
    /// - Parameter data: one JSON value, which goes out as it is.
    /// - Returns: the `id` of the ``ConnectionNews/reply(id:event:)`` that will come.
    @discardableResult
    public func send(_ data: ByteBuffer, to subscription: String) -> String {
        let id = self.nextID()
        self.input(.message(id: id, subscription: subscription, data: data))
        return id
    }

    /// Something happened that often kills lines, such as another network: ask at once whether it lives.
    public func doubt() {
        self.input(.doubt)
    }

    /// This is another network: asks whether the line lives, and tries a WebSocket again where none got through before.
    public func networkChanged() {
        self.input(.changed)
    }

    /// Tries a WebSocket now, where the session is carried over HTTP. What carries it is not disturbed.
    public func probe() {
        self.input(.probe)
    }

    /// The clock of the times in events.
    public var now: Instant { self.clock.now }

    /// Figures of this moment; `nil` once the connection has ended.
    public var statistics: ConnectionMachine.Statistics? {
        get async {
            let driver = self.driver
            return try? await driver.eventLoop.submit { driver.value?.statistics }.get()
        }
    }
}

/// Goes on while the computer sleeps, so that a sleep shows as a timer that fires late.
struct MonotonicClock: Sendable {
    private let start = ContinuousClock.now

    /// What the time of day, in the time since 1970, shows more than this clock.
    var untilWallClock: Span {
        Span(microseconds: Int64(Date().timeIntervalSince1970 * 1_000_000) - self.now.microseconds)
    }

    var now: Instant {
        let (seconds, attoseconds) = self.start.duration(to: .now).components
        return Instant(microseconds: seconds * 1_000_000 + attoseconds / 1_000_000_000_000)
    }
}
