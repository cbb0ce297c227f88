import ArgumentParser
import HoldfastServer
import Hummingbird
import Logging
import NIOConcurrencyHelpers
import NIOCore
import NIOPosix
import ServiceLifecycle

/// A gateway with a Hummingbird application around it, listening.
struct GatewayServer {
    var configuration: Configuration
    var logger: Logger
    /// Adds more endpoints beside the gateway's own.
    var addRoutes: @Sendable (Router<BasicRequestContext>, Gateway) -> Void = { _, _ in }

    /// Runs until SIGTERM or SIGINT, then drains.
    /// - Parameter onListening: called with the port that was bound, once that of the metrics is bound too: who reads
    ///   that a gateway listens may use all of it.
    /// - Throws: `ExitCode.failure` after saying why, when the port cannot be had.
    func runUntilSignal(onListening: @escaping @Sendable (Int) async -> Void) async throws {
        let threads = self.configuration.threads > 0 ? self.configuration.threads : System.coreCount
        let group = MultiThreadedEventLoopGroup(numberOfThreads: threads)
        let gateway = try Gateway(configuration: self.configuration, eventLoopGroup: group, logger: self.logger)
        let main = NIOLockedValueBox(false)
        // A stream, because waiting for it ends when the services do: the metrics' port may be one that cannot be had.
        let (metricsListen, metricsAreListening) = AsyncStream.makeStream(of: Never.self, bufferingPolicy: .unbounded)
        let router = Router(options: .autoGenerateHeadEndpoints)
        router.add(middleware: JSONErrors())
        gateway.addRoutes(to: router)
        self.addRoutes(router, gateway)
        let application = Application(
            router: router,
            server: try .holdfast(gateway),
            configuration: ApplicationConfiguration(
                address: .hostname(self.configuration.host, port: self.configuration.port)
            ),
            onServerRunning: { channel in
                main.withLockedValue { $0 = true }
                for await _ in metricsListen {}
                guard !Task.isCancelled else { return }
                await onListening(channel.localAddress?.port ?? self.configuration.port)
            },
            eventLoopGroupProvider: .shared(group),
            logger: self.quiet
        )
        var services: [ServiceGroupConfiguration.ServiceConfiguration] = [.init(service: application)]
        if let listener = self.configuration.metrics.prometheus {
            services.append(
                .init(service: self.metricsServer(listener, gateway, group) { metricsAreListening.finish() }))
        } else {
            metricsAreListening.finish()
        }
        services.append(.init(service: gateway))
        let running = ServiceGroup(
            configuration: ServiceGroupConfiguration(
                // Stopped in reverse order: the gateway drains while the applications still answer.
                services: services,
                gracefulShutdownSignals: [.sigterm, .sigint],
                logger: self.quiet
            )
        )
        do {
            try await running.run()
        } catch let error as IOError where error.errnoCode == EADDRINUSE || error.errnoCode == EACCES {
            printError(self.explain(error, main.withLockedValue { $0 }))
            throw ExitCode.failure
        } catch let error as GatewayError {
            printError("\(error).")
            throw ExitCode.failure
        }
        try await group.shutdownGracefully()
    }

    private func metricsServer(
        _ listener: Configuration.Metrics.Listener,
        _ gateway: Gateway,
        _ group: MultiThreadedEventLoopGroup,
        isListening: @escaping @Sendable () -> Void
    ) -> some Service {
        let router = Router()
        gateway.addMetricsRoutes(to: router)
        return Application(
            router: router,
            configuration: ApplicationConfiguration(address: .hostname(listener.host, port: listener.port)),
            onServerRunning: { channel in
                let port = channel.localAddress?.port ?? listener.port
                self.logger.info("metrics", metadata: ["url": "http://\(listener.host):\(port)/metrics"])
                isListening()
            },
            eventLoopGroupProvider: .shared(group),
            logger: self.quiet
        )
    }

    /// - Parameter isListening: whether the gateway's own port is bound, so that it is the metrics' port that is not.
    private func explain(_ error: IOError, _ isListening: Bool) -> String {
        if isListening, let listener = self.configuration.metrics.prometheus {
            return "metrics.prometheus: \(listener.host):\(listener.port) cannot be listened on: \(error)."
        }
        let place = "\(self.configuration.urlHost):\(self.configuration.port)"
        return error.errnoCode == EADDRINUSE
            ? "\(place) is taken by another program. Choose another port with --port PORT; --port 0 takes a free one."
            : "Listening on \(place) is not allowed: \(error). Choose a port above 1023 with --port PORT."
    }

    /// The libraries' own start and stop messages add nothing to ours.
    private var quiet: Logger {
        var logger = self.logger
        logger.logLevel = max(logger.logLevel, .warning)
        return logger
    }
}

/// Gives routes that nobody has the same form of answer as everything else.
private struct JSONErrors<Context: RequestContext>: RouterMiddleware {
    func handle(
        _ request: Request,
        context: Context,
        next: (Request, Context) async throws -> Response
    ) async throws -> Response {
        do {
            return try await next(request, context)
        } catch let error as HTTPError {
            let code = error.status.reasonPhrase.lowercased().replacing(" ", with: "_")
            let text = error.body ?? error.status.reasonPhrase
            let body = "{\"status\":\"error\",\"error\":\"\(text)\",\"code\":\"\(code)\"}"
            var headers = error.headers
            headers[.contentType] = "application/json"
            return Response(status: error.status, headers: headers, body: .init(byteBuffer: ByteBuffer(string: body)))
        }
    }
}
