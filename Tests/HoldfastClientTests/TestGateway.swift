import Foundation
import HoldfastBroker
import HoldfastClient
import HoldfastFaults
import HoldfastProtocol
import Hummingbird
import Logging
import NIOCore
import NIOPosix
import ServiceLifecycle
import Testing

@testable import HoldfastServer

/// A real gateway in this process, and a fault proxy before it.
struct TestGateway: Sendable {
    let gateway: Gateway
    let port: Int
    let proxy: FaultProxy

    /// Development settings, and heartbeats so short that a test need not wait for them.
    static var configuration: HoldfastServer.Configuration {
        var configuration = HoldfastServer.Configuration.development
        configuration.drain.window = 0
        configuration.drain.deadline = 0
        configuration.heartbeat = ServerEvent.HeartbeatAdvice(interval: 0.2, hiddenInterval: 0.2, timeout: 1)
        return configuration
    }

    static func with(
        _ configuration: HoldfastServer.Configuration = TestGateway.configuration,
        _ body: @escaping @Sendable (TestGateway) async throws -> Void
    ) async throws {
        // Not a group of its own: Hummingbird lets go of its listener a little after it has stopped, and a loop that has been
        // shut down by then complains.
        let group = MultiThreadedEventLoopGroup.singleton
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        let gateway = try Gateway(configuration: configuration, eventLoopGroup: group, logger: logger)
        let (ports, continuation) = AsyncStream.makeStream(of: Int.self, bufferingPolicy: .bufferingOldest(1))
        let router = Router()
        gateway.addRoutes(to: router)
        let application = Application(
            router: router,
            server: try .holdfast(gateway),
            configuration: ApplicationConfiguration(address: .hostname("127.0.0.1", port: 0)),
            onServerRunning: { channel in continuation.yield(channel.localAddress?.port ?? 0) },
            eventLoopGroupProvider: .shared(group),
            logger: logger
        )
        let services = ServiceGroup(services: [application, gateway], logger: logger)
        try await withThrowingTaskGroup { tasks in
            tasks.addTask { try await services.run() }
            for await port in ports {
                let proxy = try await FaultProxy.start(.init(serverHost: "127.0.0.1", serverPort: port))
                let it = TestGateway(gateway: gateway, port: port, proxy: proxy)
                let result: Result<Void, any Error>
                do {
                    result = .success(try await body(it))
                } catch {
                    result = .failure(error)
                }
                await proxy.shutdown()
                await services.triggerGracefulShutdown()
                try result.get()
                break
            }
            try await tasks.waitForAll()
        }
    }

    func publish(_ subscription: String, _ data: String) async throws {
        _ = try await self.gateway.publish(PublicationDraft(subscription: subscription, data: ByteBuffer(string: data)))
    }

    /// A figure of the gateway's metrics page that stands there without labels.
    func metric(_ name: String) async throws -> Double {
        let line = await self.gateway.prometheusText().split(separator: "\n").first { $0.hasPrefix("\(name) ") }
        return try #require(line.flatMap { Double($0.dropFirst(name.count + 1)) })
    }

    /// For a client that goes through the proxy.
    func clientConfiguration() throws -> ClientConfiguration {
        try ClientConfiguration(url: "http://127.0.0.1:\(self.proxy.port)")
    }
}

/// A port at which a connection is refused for as long as this lives: bound, so that nobody else gets it, and not listened at.
final class RefusingPort: Sendable {
    let port: Int
    private let socket: CInt

    init() throws {
        #if canImport(Glibc)
        self.socket = Glibc.socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
        #else
        self.socket = Darwin.socket(AF_INET, SOCK_STREAM, 0)
        #endif
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = in_addr_t(0x7F00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let socket = self.socket
        let result = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                bind(socket, address, length) == 0 ? getsockname(socket, address, &length) : -1
            }
        }
        try #require(result == 0)
        self.port = Int(UInt16(bigEndian: address.sin_port))
    }

    deinit {
        close(self.socket)
    }
}
