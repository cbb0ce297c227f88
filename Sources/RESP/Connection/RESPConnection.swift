import Logging
import NIOCore

/// One connection to a server: commands in a pipeline, and subscriptions to channels.
///
/// Answers come in the order of the commands. Commands sent in one turn of the event loop leave in one write. Methods can
/// be called from any thread; on the connection's event loop they act at once.
public final class RESPConnection: Sendable {
    /// What comes without being an answer. Arrives on the event loop, from inside the read.
    public enum Event: Sendable, Equatable {
        case subscribed(channel: ByteBuffer)
        case unsubscribed(channel: ByteBuffer)
        /// Slices of what the network delivered: who keeps them for long should copy them.
        case message(channel: ByteBuffer, payload: ByteBuffer)
        /// The server answered a subscription with an error, which counts for all of its channels.
        case refused(channels: [RESPArgument], RESPError)
        /// The last event.
        case closed(RESPError)
    }

    public let eventLoop: any EventLoop
    /// Whether the server agreed to RESP3, otherwise it is RESP2.
    public let isRESP3: Bool
    private let channel: any Channel
    private let handler: NIOLoopBound<RESPChannelHandler>

    init(channel: any Channel, handler: NIOLoopBound<RESPChannelHandler>, isRESP3: Bool) {
        self.channel = channel
        self.eventLoop = channel.eventLoop
        self.handler = handler
        self.isRESP3 = isRESP3
    }

    /// Connects, greets, authenticates and selects the database.
    /// - Parameters:
    ///   - eventLoop: the connection lives on it.
    ///   - onEvent: called on the event loop.
    /// - Returns: fails with ``RESPError``: `.invalidConfiguration`, `.connectFailed`, `.connectTimeout`,
    ///   `.authenticationFailed`, `.handshakeFailed`, `.protocolError`.
    public static func connect(
        address: RESPServerAddress,
        configuration: RESPConnectionConfiguration = RESPConnectionConfiguration(),
        eventLoop: any EventLoop,
        logger: Logger,
        onEvent: (@Sendable (Event) -> Void)? = nil
    ) -> EventLoopFuture<RESPConnection> {
        let promise = eventLoop.makePromise(of: RESPConnection.self)
        eventLoop.execute {
            ConnectAttempt(
                address: address,
                configuration: configuration,
                eventLoop: eventLoop,
                onEvent: { onEvent?($0) },
                completion: { result in
                    logger.debug(
                        "RESP connection",
                        metadata: ["address": "\(address)", "result": "\(Self.describe(result))"])
                    promise.completeWith(result.mapError { $0 })
                }
            ).start()
        }
        return promise.futureResult
    }

    /// ``connect(address:configuration:eventLoop:logger:onEvent:)``, for tasks.
    public static func connect(
        address: RESPServerAddress,
        configuration: RESPConnectionConfiguration = RESPConnectionConfiguration(),
        eventLoop: any EventLoop,
        logger: Logger,
        onEvent: (@Sendable (Event) -> Void)? = nil
    ) async throws(RESPError) -> RESPConnection {
        let future: EventLoopFuture<RESPConnection> = self.connect(
            address: address, configuration: configuration, eventLoop: eventLoop, logger: logger, onEvent: onEvent)
        return try await future.typed()
    }

    /// Sends a command.
    ///
    /// Commands that change what answers mean (SUBSCRIBE and its kin, MONITOR, HELLO, RESET, QUIT) fail with
    /// `.unsupportedCommand`; `CLIENT REPLY` must not be sent.
    /// - Returns: the answer; fails with ``RESPError``, an error answer as `.commandError`.
    public func execute(_ command: String, arguments: [RESPArgument]) -> EventLoopFuture<RESPValue> {
        let promise = self.eventLoop.makePromise(of: RESPValue.self)
        self.onLoop { $0.execute(command, arguments, promise) }
        return promise.futureResult
    }

    public func execute(_ command: String, _ arguments: RESPArgument...) -> EventLoopFuture<RESPValue> {
        self.execute(command, arguments: arguments)
    }

    public func execute(_ command: String, _ arguments: RESPArgument...) async throws(RESPError) -> RESPValue {
        let future: EventLoopFuture<RESPValue> = self.execute(command, arguments: arguments)
        return try await future.typed()
    }

    /// - Returns: succeeds once the server has acknowledged every channel; fails if it refused, then for all of them.
    public func subscribe(_ channels: [RESPArgument]) -> EventLoopFuture<Void> {
        let promise = self.eventLoop.makePromise(of: Void.self)
        self.onLoop { $0.subscribe(channels, promise: promise) }
        return promise.futureResult
    }

    /// Nothing happens without channels.
    /// - Returns: succeeds once the server has acknowledged every channel.
    public func unsubscribe(_ channels: [RESPArgument]) -> EventLoopFuture<Void> {
        let promise = self.eventLoop.makePromise(of: Void.self)
        self.onLoop { $0.unsubscribe(channels, promise: promise) }
        return promise.futureResult
    }

    /// Reads nothing more, so that the server keeps what it has to say. At most one read's worth of bytes stays with us.
    public func pauseReading() {
        self.onLoop { $0.pauseReading() }
    }

    public func resumeReading() {
        self.onLoop { $0.resumeReading() }
    }

    /// Ends the connection; commands without an answer fail.
    public func close() -> EventLoopFuture<Void> {
        self.onLoop { $0.close(RESPError(.connectionClosed, "the connection was closed here")) }
        return self.closeFuture
    }

    public var closeFuture: EventLoopFuture<Void> { self.channel.closeFuture }

    /// On the event loop only.
    var loopBound: RESPChannelHandler { self.handler.value }

    private func onLoop(_ body: @escaping @Sendable (RESPChannelHandler) -> Void) {
        if self.eventLoop.inEventLoop {
            body(self.handler.value)
        } else {
            self.eventLoop.execute { body(self.handler.value) }
        }
    }

    private static func describe(_ result: Result<RESPConnection, RESPError>) -> String {
        switch result {
        case .success(let connection): connection.isRESP3 ? "connected, RESP3" : "connected, RESP2"
        case .failure(let error): error.message
        }
    }
}

extension EventLoopFuture where Value: Sendable {
    /// All futures of this module fail with ``RESPError``; a loop that was shut down has an error of its own.
    fileprivate func typed() async throws(RESPError) -> Value {
        do {
            return try await self.get()
        } catch {
            throw error as? RESPError ?? RESPError(.connectionClosed, "\(error)")
        }
    }
}
