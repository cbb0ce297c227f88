import NIOCore
import NIOPosix

enum FreePort {
    /// A port that nobody listens on just now, for programs that cannot take one themselves.
    static func take() async throws -> Int {
        let listener = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .bind(host: "127.0.0.1", port: 0).get()
        defer { listener.close(promise: nil) }
        guard let port = listener.localAddress?.port else { throw DrillError("the system gives no port") }
        return port
    }
}
