import Foundation
import HoldfastCore
import HoldfastProtocol
import NIOCore
import NIOPosix
import NIOSSL
import Synchronization

/// What is below a ``HoldfastClient``: one stream of all that happens, for one reader, with all that becomes of the lines. For
/// tools that explain a connection to people.
///
/// Runs the ``ConnectionMachine`` on one event loop. All functions may be called from anywhere; they take effect in the
/// order of the calls. A connection that was closed, by the app or for good by the gateway, cannot be opened again.
package final class ClientConnection: Sendable {
    /// For one reader, who has to keep reading: see ``ClientConfiguration/waitingEvents``.
    package let events: ConnectionEvents
    private let driver: NIOLoopBoundBox<ConnectionDriver?>
    private let clock = MonotonicClock()
    private let lastID = Atomic<UInt64>(0)
    /// Services know a repeated message by its id, so no two clients may have the same ones.
    private let idPrefix = String(UInt64.random(in: 0...UInt64.max), radix: 36)

    /// - Throws: `NIOSSLError` if the configuration's certificates cannot be used.
    package init(
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

    func input(_ input: ConnectionInput) {
        let driver = self.driver
        driver.eventLoop.execute { driver.value?.input(input) }
    }

    func nextID() -> String {
        "\(self.idPrefix).\(self.lastID.add(1, ordering: .relaxed).newValue)"
    }

    /// Connects, and stays connected. While connected: asks whether the line lives. While waiting: tries at once.
    package func connect() {
        self.input(.connect)
    }

    /// Says goodbye, without waiting for an answer. The events end.
    package func close() {
        self.input(.close)
    }

    /// Answered by ``ConnectionNews/subscribed(subscription:since:event:)``, again after each session that was lost, or by
    /// ``ConnectionNews/unsubscribed(subscription:event:)`` with an error.
    /// - Parameters:
    ///   - since: the position after which messages are wanted; `nil`: from now on.
    ///   - fields: members added to the event, for services that know them.
    /// - Returns: the `id` of ``ConnectionEvent/began(subscription:id:)``.
    @discardableResult
    package func subscribe(_ subscription: String, since: Position? = nil, fields: [JSONObject.Member] = []) -> String {
        let id = self.nextID()
        self.input(.subscribe(id: id, subscription: subscription, since: since, fields: fields))
        return id
    }

    package func unsubscribe(_ subscription: String) {
        self.input(.unsubscribe(id: self.nextID(), subscription: subscription))
    }

    /// Sends a message to a subscription's service. It is repeated until the gateway has it, once.
    /// - Parameters:
    ///   - id: of the ``ConnectionNews/reply(id:event:)`` that will come; made by ``nextID()``.
    ///   - data: one JSON value, which goes out as it is.
    ///   - fields: members added to the event, for services that know them.
    func send(id: String, _ data: ByteBuffer, to subscription: String, fields: [JSONObject.Member] = []) {
        self.input(.message(id: id, subscription: subscription, data: data, fields: fields))
    }

    /// The clock of the times in events.
    package var now: Instant { self.clock.now }

    /// Figures of this moment; `nil` once the connection has ended.
    package var statistics: ConnectionMachine.Statistics? {
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
