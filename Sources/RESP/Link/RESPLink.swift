import Logging
import NIOConcurrencyHelpers
import NIOCore

/// Keeps one connection to a server alive for good: connects, notices a dead server, connects again.
///
/// Methods can be called from any thread; on the link's event loop they act at once, so what the handler does at
/// ``Event/connected`` leaves in the same loop turn. A link that was started lives until ``stop()``.
public final class RESPLink: Sendable {
    /// What happens. The handler is called on the event loop, messages from inside the read.
    public enum Event: Sendable, Equatable {
        /// Nothing is subscribed now.
        case connected
        /// Comes for a connection that was lost, and for every try that failed.
        case disconnected(reason: String)
        /// Can come for a channel that was unsubscribed meanwhile, if the server refused one it was asked for together with.
        case subscribed(channel: ByteBuffer)
        case unsubscribed(channel: ByteBuffer)
        /// Slices of what the network delivered: who keeps them for long should copy them.
        case message(channel: ByteBuffer, payload: ByteBuffer)
        /// The server does not let us subscribe to this channel.
        case refused(channel: ByteBuffer, RESPError)
        /// Of a PING, from the call to the answer.
        case latency(seconds: Double)
    }

    /// Most channels in one command.
    static let channelsPerCommand = 512

    public let eventLoop: any EventLoop
    private let runner: NIOLoopBoundBox<LinkRunner>
    private let connected: NIOLockedValueBox<Bool>

    /// - Parameter handler: called on the event loop; must not block it.
    public init(
        address: RESPServerAddress,
        configuration: RESPConnectionConfiguration = RESPConnectionConfiguration(),
        liveness: Liveness = Liveness(),
        backoff: Backoff = Backoff(),
        eventLoop: any EventLoop,
        logger: Logger,
        handler: @escaping @Sendable (Event) -> Void
    ) {
        let connected = NIOLockedValueBox(false)
        self.eventLoop = eventLoop
        self.connected = connected
        self.runner = NIOLoopBoundBox.makeBoxSendingValue(
            LinkRunner(
                address: address,
                configuration: configuration,
                machine: LinkMachine(liveness: liveness, backoff: backoff),
                eventLoop: eventLoop,
                logger: logger,
                connected: connected,
                handler: handler
            ),
            eventLoop: eventLoop
        )
    }

    /// Whether there is a greeted connection.
    public var isConnected: Bool { self.connected.withLockedValue { $0 } }

    /// Connects. Only the first call does something, and none after ``stop()``.
    public func start() {
        self.onLoop { $0.start() }
    }

    /// Ends the link for good. Commands without an answer fail. Once the link has stopped, and if called on the event loop
    /// already when this returns, no event comes any more.
    /// - Returns: succeeds when the connection is closed; while a host name is looked up, which cannot be interrupted, that
    ///   takes until the connect timeout at most.
    @discardableResult
    public func stop() -> EventLoopFuture<Void> {
        let promise = self.eventLoop.makePromise(of: Void.self)
        self.onLoop { $0.stop(promise) }
        return promise.futureResult
    }

    /// Asks for channels; each is answered by ``Event/subscribed(channel:)`` or ``Event/refused(channel:_:)``, unless the
    /// connection is lost before. Without a connection nothing happens: the owner subscribes at ``Event/connected``.
    public func subscribe(_ channels: [String]) {
        self.onLoop { $0.subscribe(channels.map { .string($0) }) }
    }

    /// ``subscribe(_:)``, for names that are not UTF-8.
    public func subscribe(bytes channels: [ByteBuffer]) {
        self.onLoop { $0.subscribe(channels.map { .bytes($0) }) }
    }

    /// Each channel is answered by ``Event/unsubscribed(channel:)``, also one that was not subscribed. Without a connection
    /// nothing happens.
    public func unsubscribe(_ channels: [String]) {
        self.onLoop { $0.unsubscribe(channels.map { .string($0) }) }
    }

    /// ``unsubscribe(_:)``, for names that are not UTF-8.
    public func unsubscribe(bytes channels: [ByteBuffer]) {
        self.onLoop { $0.unsubscribe(channels.map { .bytes($0) }) }
    }

    /// Sends a command over the connection that there is now. One that blocks (`BLPOP`) also holds up the PING, and is not
    /// for a link that has a ping timeout.
    /// - Returns: the answer; fails with ``RESPError``, without a connection at once with `.notConnected`. Nothing is sent
    ///   again by the link.
    public func execute(_ command: String, arguments: [RESPArgument]) -> EventLoopFuture<RESPValue> {
        let promise = self.eventLoop.makePromise(of: RESPValue.self)
        self.onLoop { $0.execute(command, arguments, promise) }
        return promise.futureResult
    }

    public func execute(_ command: String, _ arguments: RESPArgument...) -> EventLoopFuture<RESPValue> {
        self.execute(command, arguments: arguments)
    }

    /// Reads nothing more until ``resumeReading()``, also over the connections to come. No message arrives after this, if
    /// called on the event loop. A paused connection is not taken for dead.
    public func pauseReading() {
        self.onLoop { $0.pauseReading() }
    }

    public func resumeReading() {
        self.onLoop { $0.resumeReading() }
    }

    private func onLoop(_ body: @escaping @Sendable (LinkRunner) -> Void) {
        if self.eventLoop.inEventLoop {
            body(self.runner.value)
        } else {
            self.eventLoop.execute { body(self.runner.value) }
        }
    }
}
