import HTTPTypes
import Hummingbird
import NIOCore

/// The files of the demo's page, which are in the binary.
struct DemoPage {
    struct File: Sendable {
        var type: String
        var text: ByteBuffer

        var response: Response {
            Response(
                status: .ok,
                headers: [
                    .contentType: "\(self.type); charset=utf-8",
                    .cacheControl: "no-store",
                    .contentSecurityPolicy:
                        "default-src 'self'; img-src data:; connect-src 'self' http: https: ws: wss:",
                    .xContentTypeOptions: "nosniff",
                ],
                body: ResponseBody(byteBuffer: self.text)
            )
        }
    }

    static let index = File(type: "text/html", text: ByteBuffer(bytes: PackageResources.index_html))

    /// By name, below `/demo/`.
    static let files: [String: File] = [
        "demo.css": File(type: "text/css", text: ByteBuffer(bytes: PackageResources.demo_css)),
        "demo.js": File(type: "text/javascript", text: ByteBuffer(bytes: PackageResources.demo_js)),
        "calls.js": File(type: "text/javascript", text: ByteBuffer(bytes: PackageResources.calls_js)),
        "chart.js": File(type: "text/javascript", text: ByteBuffer(bytes: PackageResources.chart_js)),
        "ledger.js": File(type: "text/javascript", text: ByteBuffer(bytes: PackageResources.ledger_js)),
        "line.js": File(type: "text/javascript", text: ByteBuffer(bytes: PackageResources.line_js)),
        "words.js": File(type: "text/javascript", text: ByteBuffer(bytes: PackageResources.words_js)),
    ]
}
