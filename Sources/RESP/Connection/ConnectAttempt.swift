import NIOCore
import NIOPosix
import NIOSSL

/// One try to get a connection, from the name of the host to the end of the greeting. Belongs to its event loop.
final class ConnectAttempt {
    private let address: RESPServerAddress
    private let configuration: RESPConnectionConfiguration
    private let eventLoop: any EventLoop
    private let onEvent: (RESPConnection.Event) -> Void
    private var completion: ((Result<RESPConnection, RESPError>) -> Void)?
    /// Connected or not; the one of a greeting is last.
    private var channels: [any Channel] = []
    private var timer: Scheduled<Void>?
    private let over: EventLoopPromise<Void>

    /// - Parameter completion: called once.
    init(
        address: RESPServerAddress,
        configuration: RESPConnectionConfiguration,
        eventLoop: any EventLoop,
        onEvent: @escaping (RESPConnection.Event) -> Void,
        completion: @escaping (Result<RESPConnection, RESPError>) -> Void
    ) {
        self.address = address
        self.configuration = configuration
        self.eventLoop = eventLoop
        self.onEvent = onEvent
        self.completion = completion
        self.over = eventLoop.makePromise()
    }

    /// When nothing is left of an attempt that has failed. A name that is being looked up cannot be stopped: that takes at
    /// most the connect timeout.
    var closeFuture: EventLoopFuture<Void> { self.over.futureResult }

    func start() {
        do throws(RESPError) {
            try self.configuration.validate()
        } catch {
            self.over.succeed()
            return self.finish(.failure(error))
        }
        let timeout = self.configuration.connectTimeout
        self.timer = self.eventLoop.assumeIsolated().scheduleTask(in: timeout) {
            let seconds = Double(timeout.nanoseconds) / 1e9
            self.cancel(
                RESPError(.connectTimeout, "cannot connect to \(self.address): not greeted within \(seconds) s"))
        }
        let isolated = NIOLoopBound(self, eventLoop: self.eventLoop)
        let bootstrap = ClientBootstrap(group: self.eventLoop)
            // Ours ends first and says more; this one only makes sure that nothing stays.
            .connectTimeout(timeout + .milliseconds(100))
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try isolated.value.add(channel) }
            }
        let connected: EventLoopFuture<any Channel>
        switch self.address.kind {
        case .hostname(let host, let port):
            connected =
                bootstrap
                // Commands are small and must not wait for each other.
                .channelOption(.tcpOption(.tcp_nodelay), value: 1)
                // Without pings, this is what finds out that a server is gone.
                .channelOption(.socketOption(.so_keepalive), value: 1)
                .connect(host: host, port: port)
        case .unixDomainSocket(let path): connected = bootstrap.connect(unixDomainSocketPath: path)
        }
        connected.assumeIsolated().whenComplete { result in
            switch result {
            case .success(let channel): self.connected(channel)
            case .failure(let error):
                self.over.succeed()
                self.finish(.failure(self.failure(.connectFailed, describe(error))))
            }
        }
    }

    /// Ends the attempt, if it is still under way.
    func cancel(_ error: RESPError) {
        self.finish(.failure(error))
    }

    private func add(_ channel: any Channel) throws(RESPError) {
        guard self.completion != nil else { throw RESPError(.stopped, "the attempt is over") }
        self.channels.append(channel)
    }

    private func connected(_ channel: any Channel) {
        channel.closeFuture.cascade(to: self.over)
        guard self.completion != nil else { return channel.close(promise: nil) }
        self.channels = [channel]
        let handler = RESPChannelHandler(
            configuration: self.configuration,
            eventLoop: self.eventLoop,
            onEvent: self.onEvent,
            greeted: { self.greeted(channel, $0) }
        )
        self.handler = handler
        do {
            if let tls = try self.makeTLS() { try channel.pipeline.syncOperations.addHandler(tls) }
            try channel.pipeline.syncOperations.addHandler(handler)
        } catch {
            self.finish(.failure(self.failure(.connectFailed, describe(error))))
        }
    }

    private var handler: RESPChannelHandler?

    private func makeTLS() throws -> NIOSSLClientHandler? {
        guard case .enable(let context, let name) = self.configuration.tls.kind else { return nil }
        if let name { return try NIOSSLClientHandler(context: context, serverHostname: name) }
        guard case .hostname(let host, let port) = self.address.kind,
            // An address has no name that could stand in SNI (RFC 6066 §3); NIOSSL looks for it in the certificate itself.
            (try? SocketAddress(ipAddress: host, port: port)) == nil
        else { return try NIOSSLClientHandler(context: context, serverHostname: nil) }
        return try NIOSSLClientHandler(context: context, serverHostname: host)
    }

    private func greeted(_ channel: any Channel, _ result: Result<Bool, RESPError>) {
        switch result {
        case .success(let isRESP3):
            guard let handler = self.handler else { return }
            self.finish(
                .success(
                    RESPConnection(
                        channel: channel, handler: NIOLoopBound(handler, eventLoop: self.eventLoop), isRESP3: isRESP3)))
        case .failure(let error):
            let code = error.code == .connectionClosed ? RESPError.Code.connectFailed : error.code
            self.finish(.failure(self.failure(code, error.message)))
        }
    }

    private func failure(_ code: RESPError.Code, _ reason: String) -> RESPError {
        RESPError(code, "cannot connect to \(self.address): \(reason)")
    }

    private func finish(_ result: Result<RESPConnection, RESPError>) {
        guard let completion = self.completion else { return }
        self.completion = nil
        self.timer?.cancel()
        self.timer = nil
        let handler = self.handler
        self.handler = nil
        let channels = self.channels
        self.channels = []
        if case .failure(let error) = result {
            handler?.close(error)
            for channel in channels { channel.close(promise: nil) }
        }
        completion(result)
    }
}
