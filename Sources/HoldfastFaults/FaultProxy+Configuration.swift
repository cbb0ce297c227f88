import NIOCore

extension FaultProxy {
    public struct Configuration: Sendable {
        /// Where it listens.
        public var listenHost: String
        /// 0 takes a free port: ``FaultProxy/port`` says which.
        public var listenPort: Int
        /// Where it connects to, anew for each connection that it accepts.
        public var serverHost: String
        public var serverPort: Int

        /// After this the client's connection is reset.
        public var connectTimeout: TimeAmount = .seconds(10)

        /// Connections at a time, those of which both ends have gone unheard included. One more is reset.
        public var connectionLimit = 10_000

        /// Of the kernel, per socket, in bytes, as `SO_RCVBUF` takes it (Linux doubles it for its own bookkeeping). It
        /// is also the most that one socket can bring at once when a FIN is behind the data.
        public var receiveBufferSize = 256 * 1024

        /// Bytes per socket that wait here for the kernel to take them. Above the high mark the other side is not read
        /// until the low mark is reached; what one read brings (at most 64 KiB) may come on top.
        public var writeWaterMark = ChannelOptions.Types.WriteBufferWaterMark(low: 32 * 1024, high: 64 * 1024)

        /// Bytes per direction of a connection that wait here because the line is slow. Beyond it the sender is not
        /// read; what one read brings may come on top. With a latency that bounds the throughput, as a window does: 256
        /// KiB in 300 ms are 850 KB/s.
        public var heldBytesLimit = 256 * 1024

        /// Requests at a time that are being repeated, and how long each may take.
        public var duplicateLimit = 100
        public var duplicateTime: TimeAmount = .seconds(60)

        /// Of the jitter: the same seed and the same bytes at the same times, the same delays.
        public var seed: UInt64 = 1

        /// Told what happens, on the proxy's event loop: it must not block.
        public var onEvent: (@Sendable (Event) -> Void)?

        /// How long the sockets of a connection are held of which both ends have gone and one of them was not to learn
        /// it from the other.
        public var ghostTime: TimeAmount = .seconds(120)

        /// When a client whose first SYN was lost sends it again, counted from the first, ascending: a connection that
        /// was begun during a cut is made at the first of these times after the restore. The default is Linux's; after
        /// the last the client is left alone, as it is by a network.
        public var synRepeats: [TimeAmount] = [1, 3, 7, 15, 31, 63].map { .seconds($0) }

        public init(listenHost: String = "127.0.0.1", listenPort: Int = 0, serverHost: String, serverPort: Int) {
            self.listenHost = listenHost
            self.listenPort = listenPort
            self.serverHost = serverHost
            self.serverPort = serverPort
        }
    }
    /// Something that happened, for people.
    public struct Event: Sendable, Hashable {
        /// From 1, in the order of their coming; `nil` if it concerns all.
        public let connection: Int?
        public let text: String

        public init(connection: Int? = nil, text: String) {
            self.connection = connection
            self.text = text
        }
    }
}
