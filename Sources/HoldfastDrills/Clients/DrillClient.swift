/// A client under a drill. What it sees goes into its log.
public protocol DrillClient: Sendable {
    var log: SightingLog { get }
    /// Of its process, where it has one of its own.
    var pid: Int32? { get }

    /// Connects and subscribes, and stays connected.
    func connect(url: String, subscription: String) async throws
    /// The network or the app says that the line is back.
    func wake()
    /// The page goes to the background.
    func hide()
    /// Ends it; nothing of it is left.
    func close() async
    /// Sent to the client's process and those that it has started.
    func signal(_ number: Int32)
}
