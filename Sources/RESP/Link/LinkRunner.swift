import Logging
import NIOConcurrencyHelpers
import NIOCore

/// Carries out what ``LinkMachine`` decides. Belongs to the link's event loop.
final class LinkRunner {
    private let address: RESPServerAddress
    private let configuration: RESPConnectionConfiguration
    private var machine: LinkMachine
    private let eventLoop: any EventLoop
    private let logger: Logger
    private let connected: NIOLockedValueBox<Bool>
    /// Gone after the end, with all that it holds.
    private var handler: (@Sendable (RESPLink.Event) -> Void)?
    private var connecting: ConnectAttempt?
    private var connection: RESPConnection?
    private var timer: Scheduled<Void>?
    private var stopped: EventLoopFuture<Void>?

    init(
        address: RESPServerAddress,
        configuration: RESPConnectionConfiguration,
        machine: LinkMachine,
        eventLoop: any EventLoop,
        logger: Logger,
        connected: NIOLockedValueBox<Bool>,
        handler: @escaping @Sendable (RESPLink.Event) -> Void
    ) {
        self.address = address
        self.configuration = configuration
        self.machine = machine
        self.eventLoop = eventLoop
        self.logger = logger
        self.connected = connected
        self.handler = handler
    }

    // MARK: For the owner

    func start() {
        self.perform(self.machine.start())
    }

    func stop(_ promise: EventLoopPromise<Void>) {
        if let stopped = self.stopped { return stopped.cascade(to: promise) }
        self.machine.stop()
        self.handler = nil
        self.timer?.cancel()
        self.timer = nil
        self.connected.withLockedValue { $0 = false }
        let end: EventLoopFuture<Void>
        if let connection = self.connection {
            end = connection.close()
        } else if let connecting = self.connecting {
            end = connecting.closeFuture
            connecting.cancel(Self.stoppedError)
        } else {
            end = self.eventLoop.makeSucceededVoidFuture()
        }
        self.connection = nil
        self.connecting = nil
        self.stopped = end
        end.cascade(to: promise)
    }

    func subscribe(_ channels: [RESPArgument]) {
        guard let handler = self.connection?.loopBound else { return }
        for command in Self.commands(channels) {
            handler.subscribe(command, promise: self.dropIfUnsent())
        }
    }

    func unsubscribe(_ channels: [RESPArgument]) {
        guard let handler = self.connection?.loopBound else { return }
        for command in Self.commands(channels) {
            handler.unsubscribe(command, promise: self.dropIfUnsent())
        }
    }

    func execute(_ command: String, _ arguments: [RESPArgument], _ promise: EventLoopPromise<RESPValue>) {
        guard self.stopped == nil else { return promise.fail(Self.stoppedError) }
        guard let handler = self.connection?.loopBound else {
            return promise.fail(RESPError(.notConnected, "there is no connection to \(self.address)"))
        }
        handler.execute(command, arguments, promise)
    }

    func pauseReading() {
        self.machine.pause()
        self.connection?.loopBound.pauseReading()
    }

    func resumeReading() {
        self.machine.resume()
        self.connection?.loopBound.resumeReading()
        self.setTimer()
    }

    private static let stoppedError = RESPError(.stopped, "the link was stopped")

    private static func commands(_ channels: [RESPArgument]) -> [[RESPArgument]] {
        stride(from: 0, to: channels.count, by: RESPLink.channelsPerCommand).map { start in
            Array(channels[start..<min(start + RESPLink.channelsPerCommand, channels.count)])
        }
    }

    /// Nobody waits for a subscription that could not even be sent: only a new connection, at which the owner subscribes
    /// again, brings both sides together.
    private func dropIfUnsent() -> EventLoopPromise<Void> {
        let attempt = self.machine.attempt
        let promise = self.eventLoop.makePromise(of: Void.self)
        promise.futureResult.assumeIsolated().whenFailure { error in
            guard let error = error as? RESPError, error.code == .tooManyCommands, attempt == self.machine.attempt
            else {
                return
            }
            self.connection?.loopBound.close(error)
        }
        return promise
    }

    // MARK: Machine

    private func perform(_ action: LinkMachine.Action) {
        switch action {
        case .nothing: break
        case .connect(let attempt): self.connect(attempt)
        case .announceUp:
            self.connected.withLockedValue { $0 = true }
            self.logger.debug("connected to \(self.address)")
            self.handler?(.connected)
        case .announceDown(let reason): self.announceDown(reason)
        case .sendPing(let attempt): self.ping(attempt)
        case .drop(let reason):
            let connection = self.connection
            // First, so that the owner can fail over in its handler without the old connection being there.
            self.connection = nil
            connection?.loopBound.close(RESPError(.connectionClosed, reason))
            self.announceDown(reason)
        case .announceLatency(let seconds): self.handler?(.latency(seconds: seconds))
        }
        self.setTimer()
    }

    private func announceDown(_ reason: String) {
        self.connected.withLockedValue { $0 = false }
        self.logger.debug("no connection to \(self.address)", metadata: ["reason": "\(reason)"])
        self.handler?(.disconnected(reason: reason))
    }

    private func connect(_ attempt: UInt64) {
        let connecting = ConnectAttempt(
            address: self.address,
            configuration: self.configuration,
            eventLoop: self.eventLoop,
            onEvent: { self.received($0, attempt) },
            completion: { self.connected($0, attempt) }
        )
        self.connecting = connecting
        connecting.start()
    }

    private func connected(_ result: Result<RESPConnection, RESPError>, _ attempt: UInt64) {
        guard self.stopped == nil else { return }
        self.connecting = nil
        switch result {
        case .success(let connection):
            self.connection = connection
            if self.machine.isPaused { connection.loopBound.pauseReading() }
            self.perform(self.machine.connected(attempt, now: .now()))
        case .failure(let error): self.lost(attempt, error)
        }
    }

    private func lost(_ attempt: UInt64, _ error: RESPError) {
        self.perform(self.machine.lost(attempt, reason: error.message, now: .now(), random: .random(in: 0..<1)))
    }

    private func received(_ event: RESPConnection.Event, _ attempt: UInt64) {
        switch event {
        case .message(let channel, let payload): self.handler?(.message(channel: channel, payload: payload))
        case .subscribed(let channel): self.handler?(.subscribed(channel: channel))
        case .unsubscribed(let channel): self.handler?(.unsubscribed(channel: channel))
        case .refused(let channels, let error): self.refused(channels, error)
        case .closed(let error):
            if attempt == self.machine.attempt { self.connection = nil }
            self.lost(attempt, error)
        }
    }

    /// The server refuses a whole command for one channel: asked one by one, the others can be had.
    private func refused(_ channels: [RESPArgument], _ error: RESPError) {
        if channels.count > 1, error.serverErrorKind == "NOPERM" {
            for channel in channels { self.connection?.loopBound.subscribe([channel], promise: self.dropIfUnsent()) }
            return
        }
        for channel in channels {
            switch channel {
            case .string(let name): self.handler?(.refused(channel: ByteBuffer(string: name), error))
            case .bytes(let name): self.handler?(.refused(channel: name, error))
            }
        }
    }

    // MARK: Time

    private func ping(_ attempt: UInt64) {
        let promise = self.eventLoop.makePromise(of: RESPValue.self)
        promise.futureResult.assumeIsolated().whenComplete { result in
            // An error is an answer; what comes from here, as a connection that ended, is not.
            if case .failure(let error) = result, (error as? RESPError)?.code != .commandError { return }
            self.perform(self.machine.pong(attempt, now: .now()))
        }
        self.connection?.loopBound.ping(promise) ?? promise.fail(Self.stoppedError)
    }

    private var lastActivity: NIODeadline { self.connection?.loopBound.lastActivity ?? .uptimeNanoseconds(0) }

    private func setTimer() {
        self.timer?.cancel()
        self.timer = nil
        guard let deadline = self.machine.deadline(lastActivity: self.lastActivity) else { return }
        self.timer = self.eventLoop.assumeIsolated().scheduleTask(deadline: deadline) {
            self.timer = nil
            self.perform(
                self.machine.timerFired(now: .now(), lastActivity: self.lastActivity, random: .random(in: 0..<1)))
        }
    }
}
