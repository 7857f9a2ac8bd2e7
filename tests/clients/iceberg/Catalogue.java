import java.io.File;
import java.util.Map;
import org.apache.iceberg.CatalogProperties;
import org.apache.iceberg.Files;
import org.apache.iceberg.io.FileIO;
import org.apache.iceberg.io.InputFile;
import org.apache.iceberg.io.OutputFile;
import org.apache.iceberg.io.PositionOutputStream;
import org.apache.iceberg.io.SeekableInputStream;
import org.apache.iceberg.jdbc.JdbcCatalog;
import org.apache.iceberg.rest.RESTCatalogAdapter;
import org.apache.iceberg.rest.RESTCatalogServlet;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;
import org.eclipse.jetty.servlet.ServletContextHandler;
import org.eclipse.jetty.servlet.ServletHolder;

/**
 * Iceberg's own catalog with its own REST server, for tests: Catalogue DATABASE WAREHOUSE BUCKETS. Tables are below WAREHOUSE; of
 * one in S3, files are where a store has them that keeps each bucket in a directory of BUCKETS. Says its port on stdout, and
 * ends with its stdin.
 */
public final class Catalogue {
    private record Stored(File file, String location) implements InputFile, OutputFile {
        @Override
        public PositionOutputStream create() {
            return Files.localOutput(file).create();
        }

        @Override
        public PositionOutputStream createOrOverwrite() {
            return Files.localOutput(file).createOrOverwrite();
        }

        @Override
        public InputFile toInputFile() {
            return this;
        }

        @Override
        public long getLength() {
            return file.length();
        }

        @Override
        public SeekableInputStream newStream() {
            return Files.localInput(file).newStream();
        }

        @Override
        public boolean exists() {
            return file.exists();
        }
    }

    private record Stores(String buckets) implements FileIO {
        private Stored at(String location) {
            String path = location.startsWith("s3://")
                ? buckets + "/" + location.substring("s3://".length())
                : location.replaceFirst("^file:(//)?", "");
            return new Stored(new File(path), location);
        }

        @Override
        public InputFile newInputFile(String location) {
            return at(location);
        }

        @Override
        public OutputFile newOutputFile(String location) {
            return at(location);
        }

        @Override
        public void deleteFile(String location) {
            at(location).file().delete();
        }
    }

    public static void main(String[] arguments) throws Exception {
        JdbcCatalog catalog = new JdbcCatalog(properties -> new Stores(arguments[2]), null, true);
        catalog.initialize("tests", Map.of(
            CatalogProperties.URI, "jdbc:sqlite:" + arguments[0],
            CatalogProperties.WAREHOUSE_LOCATION, arguments[1],
            // SQLite takes one writer at a time.
            CatalogProperties.CLIENT_POOL_SIZE, "1"
        ));
        ServletContextHandler handler = new ServletContextHandler();
        handler.addServlet(new ServletHolder(new RESTCatalogServlet(new RESTCatalogAdapter(catalog))), "/*");
        Server server = new Server();
        ServerConnector connector = new ServerConnector(server);
        connector.setHost("127.0.0.1");
        server.addConnector(connector);
        server.setHandler(handler);
        server.start();
        System.out.println(connector.getLocalPort());
        System.out.flush();
        while (System.in.read() >= 0) {
            // Nothing is said there.
        }
        server.stop();
    }
}
