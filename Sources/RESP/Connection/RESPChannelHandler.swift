import NIOCore

/// One connection's end of the pipeline: commands out, answers and messages in. Belongs to its channel's event loop.
final class RESPChannelHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    /// What waits for an answer.
    enum Waiting {
        case command(EventLoopPromise<RESPValue>)
        case subscription(ReplyMatcher<Waiting>.Verb, [RESPArgument], EventLoopPromise<Void>)
        case greeting
    }

    private enum State {
        case greeting(RESPHandshake, (Result<Bool, RESPError>) -> Void)
        case open
        case ended(RESPError)
    }

    private let configuration: RESPConnectionConfiguration
    private let eventLoop: NIOIsolatedEventLoop
    private let onEvent: (RESPConnection.Event) -> Void
    private var state: State
    private var context: ChannelHandlerContext?
    private var parser: RESPParser
    private var matcher = ReplyMatcher<Waiting>()

    /// Commands of this loop turn; they leave in one write.
    private var outgoing = ByteBuffer()
    private var isFlushScheduled = false
    /// Bytes that the network has not taken yet, without those of `outgoing`.
    private var unwrittenBytes = 0

    private var isPaused = false
    /// Inside ``readValues()``, from which the owner can call back.
    private var isReading = false
    private var timer: Scheduled<Void>?
    /// When bytes came last, or could come again after a pause.
    private(set) var lastActivity: NIODeadline

    /// - Parameters:
    ///   - greeted: whether RESP3 is spoken, or why there is no connection.
    ///   - onEvent: events of an open connection; `.closed` is the last one.
    init(
        configuration: RESPConnectionConfiguration,
        eventLoop: any EventLoop,
        onEvent: @escaping (RESPConnection.Event) -> Void,
        greeted: @escaping (Result<Bool, RESPError>) -> Void
    ) {
        self.configuration = configuration
        self.eventLoop = eventLoop.assumeIsolated()
        self.onEvent = onEvent
        self.parser = RESPParser(limits: configuration.limits)
        self.state = .greeting(RESPHandshake(configuration), greeted)
        self.lastActivity = .now()
    }

    // MARK: Commands

    func execute(_ command: String, _ arguments: [RESPArgument], _ promise: EventLoopPromise<RESPValue>) {
        guard !Self.unsupported.contains(command.uppercased()) else {
            let message = "\(command) cannot be executed here, for it changes what answers mean"
            return promise.fail(RESPError(.unsupportedCommand, message))
        }
        if let refusal = self.refusal(command, arguments) { return promise.fail(refusal) }
        self.send(command, arguments, .command(promise), .reply)
    }

    /// A question that limits do not hold back: an owner that fills them must not make a living server look dead.
    func ping(_ promise: EventLoopPromise<RESPValue>) {
        if case .open = self.state {
            self.send("PING", [], .command(promise), .reply)
        } else {
            promise.fail(Self.notOpen)
        }
    }

    /// - Parameter promise: kept once every channel was acknowledged.
    func subscribe(_ channels: [RESPArgument], promise: EventLoopPromise<Void>) {
        self.change(.subscribe, "SUBSCRIBE", channels, promise)
    }

    func unsubscribe(_ channels: [RESPArgument], promise: EventLoopPromise<Void>) {
        self.change(.unsubscribe, "UNSUBSCRIBE", channels, promise)
    }

    private func change(
        _ verb: ReplyMatcher<Waiting>.Verb,
        _ command: String,
        _ channels: [RESPArgument],
        _ promise: EventLoopPromise<Void>
    ) {
        // UNSUBSCRIBE without channels would end all subscriptions.
        guard !channels.isEmpty else { return promise.succeed() }
        let waiting = Waiting.subscription(verb, channels, promise)
        let kind = ReplyMatcher<Waiting>.Kind.acknowledgements(verb, missing: channels.count)
        if let refusal = self.refusal(command, channels) { return self.fail(waiting, refusal) }
        self.send(command, channels, waiting, kind)
    }

    private static let notOpen = RESPError(.notConnected, "the connection is not open")

    /// Why a command cannot be sent.
    private func refusal(_ command: String, _ arguments: [RESPArgument]) -> RESPError? {
        switch self.state {
        case .open: break
        case .greeting: return Self.notOpen
        case .ended(let error): return RESPError(.notConnected, "the connection is closed: \(error.message)")
        }
        guard self.matcher.count < self.configuration.maxCommandsInFlight else {
            let limit = self.configuration.maxCommandsInFlight
            return RESPError(
                .tooManyCommands, "\(self.matcher.count) commands wait for answers, the limit is \(limit)")
        }
        let waiting = self.outgoing.readableBytes + self.unwrittenBytes
        let bytes = waiting + RESPCommandEncoder.estimate(command, arguments)
        guard bytes <= self.configuration.maxOutboundBytes else {
            let limit = self.configuration.maxOutboundBytes
            return RESPError(.tooManyCommands, "\(bytes) bytes of commands would wait, the limit is \(limit)")
        }
        return nil
    }

    /// After these, answers would be taken for others.
    private static let unsupported: Set<String> = [
        "SUBSCRIBE", "UNSUBSCRIBE", "PSUBSCRIBE", "PUNSUBSCRIBE", "SSUBSCRIBE", "SUNSUBSCRIBE", "MONITOR", "HELLO",
        "RESET", "QUIT", "SYNC", "PSYNC",
    ]

    private func send(
        _ command: String,
        _ arguments: [RESPArgument],
        _ waiting: Waiting,
        _ kind: ReplyMatcher<Waiting>.Kind
    ) {
        RESPCommandEncoder.encode(command, arguments, into: &self.outgoing)
        self.matcher.sent(waiting, kind, at: .now())
        self.startTimer()
        guard !self.isFlushScheduled else { return }
        self.isFlushScheduled = true
        self.eventLoop.execute { self.flush() }
    }

    private func flush() {
        self.isFlushScheduled = false
        let bytes = self.outgoing.readableBytes
        guard bytes > 0, let context = self.context else { return }
        self.unwrittenBytes += bytes
        let written = context.writeAndFlush(self.wrapOutboundOut(self.outgoing))
        self.outgoing = ByteBuffer()
        written.assumeIsolated().whenComplete { _ in self.unwrittenBytes -= bytes }
    }

    private func fail(_ waiting: Waiting, _ error: RESPError) {
        switch waiting {
        case .command(let promise): promise.fail(error)
        case .subscription(_, _, let promise): promise.fail(error)
        case .greeting: self.end(error)
        }
    }

    // MARK: Time

    /// Answers come in order, so one timer for the oldest command is enough.
    private func startTimer() {
        guard self.timer == nil, !self.isPaused, let timeout = self.configuration.commandTimeout,
            let oldest = self.matcher.oldest
        else { return }
        self.timer = self.eventLoop.scheduleTask(deadline: self.lastChance(oldest, timeout)) {
            self.timerFired(timeout)
        }
    }

    private func timerFired(_ timeout: TimeAmount) {
        self.timer = nil
        guard !self.isPaused, let oldest = self.matcher.oldest else { return }
        guard self.lastChance(oldest, timeout) <= .now() else { return self.startTimer() }
        let seconds = Double(timeout.nanoseconds) / 1e9
        self.end(RESPError(.commandTimeout, "a command was not answered within \(seconds) s"))
    }

    /// A command that was sent before a pause has all of its time again after it.
    private func lastChance(_ since: NIODeadline, _ timeout: TimeAmount) -> NIODeadline {
        max(since, self.resumed) + timeout
    }

    private var resumed = NIODeadline.uptimeNanoseconds(0)

    // MARK: Flow

    func pauseReading() {
        guard !self.isPaused else { return }
        self.isPaused = true
        self.timer?.cancel()
        self.timer = nil
        self.setAutoRead(false)
    }

    func resumeReading() {
        guard self.isPaused else { return }
        self.isPaused = false
        self.resumed = .now()
        self.lastActivity = self.resumed
        self.startTimer()
        self.setAutoRead(true)
        // What had come before the pause. Not from inside this call: its caller may not be ready for messages.
        self.eventLoop.execute { self.readValues() }
    }

    private func setAutoRead(_ isOn: Bool) {
        // Fails only on a channel that is closed.
        try? self.context?.channel.syncOptions?.setOption(.autoRead, value: isOn)
    }

    /// Ends the connection. What waits fails.
    func close(_ error: RESPError) {
        self.end(error)
    }

    // MARK: Channel

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        if context.channel.isActive { self.greet() }
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        self.end(RESPError(.connectionClosed, "the connection was taken apart"))
        self.context = nil
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        self.lastActivity = .now()
        self.parser.append(self.unwrapInboundIn(data))
        self.readValues()
    }

    func channelInactive(context: ChannelHandlerContext) {
        self.end(RESPError(.connectionClosed, "the server closed the connection"))
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        self.end(RESPError(.connectionClosed, describe(error)))
    }

    private func end(_ error: RESPError) {
        let state = self.state
        if case .ended = state { return }
        self.state = .ended(error)
        self.timer?.cancel()
        self.timer = nil
        self.outgoing = ByteBuffer()
        for waiting in self.matcher.removeAll() {
            switch waiting {
            case .command, .subscription: self.fail(waiting, error)
            case .greeting: break
            }
        }
        self.context?.close(promise: nil)
        switch state {
        case .greeting(_, let greeted): greeted(.failure(error))
        case .open: self.onEvent(.closed(error))
        case .ended: break
        }
    }

    // MARK: Greeting

    private func greet() {
        guard case .greeting(var handshake, let greeted) = self.state else { return }
        let action = handshake.start()
        self.state = .greeting(handshake, greeted)
        self.perform(action, greeted)
    }

    private func greetingAnswered(_ value: RESPValue) {
        guard case .greeting(var handshake, let greeted) = self.state else { return }
        let action = handshake.received(value)
        self.state = .greeting(handshake, greeted)
        self.perform(action, greeted)
    }

    private func perform(_ action: RESPHandshake.Action, _ greeted: (Result<Bool, RESPError>) -> Void) {
        switch action {
        case .send(let step):
            let command = RESPHandshake.command(step, self.configuration)
            self.send(command.name, command.arguments, .greeting, .reply)
        case .done(let isRESP3):
            self.state = .open
            self.matcher.isRESP3 = isRESP3
            greeted(.success(isRESP3))
        case .fail(let error): self.end(error)
        }
    }

    // MARK: Reading

    private func readValues() {
        guard !self.isReading else { return }
        self.isReading = true
        defer { self.isReading = false }
        do throws(RESPError) {
            while !self.isPaused, !self.isEnded, let value = try self.parser.next() {
                self.perform(try self.matcher.received(value))
            }
        } catch {
            self.end(RESPError(error.code, "the server sent \(error.message)"))
        }
    }

    private var isEnded: Bool { if case .ended = self.state { true } else { false } }

    private func perform(_ action: ReplyMatcher<Waiting>.Action) {
        switch action {
        case .message(let channel, let payload): self.onEvent(.message(channel: channel, payload: payload))
        case .acknowledged(let verb, let channel, let completes):
            switch verb {
            case .subscribe: self.onEvent(.subscribed(channel: channel))
            case .unsubscribe: self.onEvent(.unsubscribed(channel: channel))
            }
            if case .subscription(_, _, let promise) = completes { promise.succeed() }
        case .reply(.command(let promise), let value):
            if let message = value.errorMessage {
                promise.fail(RESPError(.commandError, message))
            } else {
                promise.succeed(value)
            }
        case .reply(.subscription(let verb, let channels, let promise), let value):
            let error = RESPError(.commandError, value.errorMessage ?? "")
            if verb == .subscribe { self.onEvent(.refused(channels: channels, error)) }
            promise.fail(error)
        case .reply(.greeting, let value): self.greetingAnswered(value)
        case .nothing: break
        }
    }
}
